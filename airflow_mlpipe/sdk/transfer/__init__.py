"""The code of a DataTransferStep: a folder of its own, which is the step's snapshot."""
