"""Which class each sample of a data set is of: from folders, columns, shards, label files and ImageNet's devkit."""
