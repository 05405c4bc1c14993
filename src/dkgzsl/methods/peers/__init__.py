"""Other methods of the field behind the same interface, each written from its formulas."""
