"""How fast, against others?"""
