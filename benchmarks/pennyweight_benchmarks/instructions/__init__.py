"""Instructions that one image and a start execute on Raspberry-Pi-class targets, counted in an emulator.

Counts repeat exactly, so they show what a change costs where a time would drown in noise. They are no time.
"""
