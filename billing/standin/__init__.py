"""A stand-in for Stripe: an HTTP server in memory that the real `stripe` SDK talks to.

It is a product of its own: nothing here imports the rest of `billing`, or the `stripe` package.
Start it with `python -m billing.standin`; `docs/standin.md` shows the rest.

    app            the life of one request, and the ASGI door
    wire           closing a connection without a word
    access         API keys, accounts, modes
    routes         which route is answered by whom
    forms          what was sent: form bodies, and whether two are the same
    parameters     the tables' vocabulary: what a route accepts
    idempotency    one key, one answer, for a day
    faults         what goes wrong, and where in a request's life
    hostile        answers that a client must not believe
    waiting        requests that are held until somebody lets them go
    errors         refusals, in Stripe's words
    world          clock, ids and the books of every account
    books          what one account has in one mode
    rows           what is kept of each object
    call           what the answerer of a route is given
    customers, intents, authorisations, cards, charges, invoices, events, lists   the API
    shapes, invoice_shape, expansion                                              how its objects look
    admin          /_standin: look inside, and arrange what goes wrong
    control        a small client for the admin side
"""
