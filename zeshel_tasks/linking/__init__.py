"""Links mentions: what turns the scores of several methods into one."""
