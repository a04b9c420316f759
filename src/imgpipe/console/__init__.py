"""What commands print: lines, tables, progress."""
