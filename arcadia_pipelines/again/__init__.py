"""What need not be done again: who has to be computed anew, and which rows stand as they were written."""
