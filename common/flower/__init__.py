"""Where Flower's types are handled: records to arrays and bytes and back, hosts of the apps.

``hosting`` alone touches Flower's internals. Nothing that came over a network leaves this room
unchecked.
"""
