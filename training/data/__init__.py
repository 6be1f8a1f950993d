"""The data factory: from source code to a dataset of problems and solutions."""
