"""Bytes that live elsewhere: what a dataset names, on disks and in object stores."""
