"""S3 servers of other makers than moto, for the tests of the store."""
