"""An invoice's lines in words, by what they are made from; explanation.py says which are which."""
