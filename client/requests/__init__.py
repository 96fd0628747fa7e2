"""What a request is answered by: checked, with its model loaded, then trained or evaluated.

    received   a request with its model, checked
    job        a training request in three steps: begin, work, finish
    local      the work: an update, whatever is asked of its privacy
    own_model  a hospital's own whole model

It never sends: what it returns passes the gate.
"""
