"""Courses: the file an instructor writes, what is applied, built, published and closed."""
