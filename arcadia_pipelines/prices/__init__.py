"""The price book as a file: what is sold at which price, for people to review, check and apply as a whole."""
