"""LAT of Eq. 19: measured, from tables, and of networks without one connection."""
