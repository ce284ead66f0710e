"""What is fast and what is small, measured against plain versions of the same in the same run."""
