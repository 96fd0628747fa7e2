"""The hospital's process: it opens the kit, dials out, answers one request at a time.

    main          the one place where a hospital's parts are put together: ``HospitalProcess``
    study         one study's rules, answers, place and thread, over what all studies share
    place         where a study is computed: its hospital, its app, what they remember
    responder     check, let the app work, remember, write down, send
    store answers what outlives the process
    cli doctor    the command line, and what it finds wrong beforehand

The connection drives the responder, and the responder the app (``client/app``), whose handlers
(``client/requests``) drive the ``Hospital`` (``client/data``) and its training.

State on disk, answer kept, audit line on disk, then bytes leave. It never computes on patients'
data itself: that is the app's.
"""
