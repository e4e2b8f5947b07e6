"""A small case walked through with every number shown: the equations of a cell's docstring, carried out one by one."""
