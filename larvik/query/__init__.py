"""Queries as values: building one touches nothing; a connection evaluates it."""

from larvik.query.predicate import And, Compare, Not, Or, Predicate
from larvik.query.query import Order, Page, Query, Record

__all__ = ["And", "Compare", "Not", "Or", "Order", "Page", "Predicate", "Query", "Record"]
