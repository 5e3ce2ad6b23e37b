"""What a program hands over: a log cut to the limits, and what all logs have in common."""
