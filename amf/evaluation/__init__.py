"""The organisers' numbers, intervals for them, and a report to look at."""
