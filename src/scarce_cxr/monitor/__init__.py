"""Watchers that the loop calls: is the representation learning?"""
