"""Reading a hospital's files, with every problem named by file, line and column."""
