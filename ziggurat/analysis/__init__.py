"""What a search has taught: functions of choices, trials and histories; nothing here draws or decides."""
