"""The networks that embed pictures: MobileNet v1, v2 and v3, and the rounding of their weights to int8."""
