//! Rows as they are read: what is taken, and every kind of trouble with file, row and column.
