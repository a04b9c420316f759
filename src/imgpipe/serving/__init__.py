"""Predictions for people: lists and a page."""
