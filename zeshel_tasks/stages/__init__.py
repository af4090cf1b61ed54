"""The stages of the recipe, one module each, and the contract that they all run under (``contract.py``)."""
