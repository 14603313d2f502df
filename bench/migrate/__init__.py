"""Moves a store to another database and proves that it arrived: `catalog` says what there is to move."""
