"""Transform steps: what is changed in every answer of a dataset, by configuration."""
