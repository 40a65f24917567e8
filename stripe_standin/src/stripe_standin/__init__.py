"""A stand-in for Stripe: an HTTP server in memory that the real `stripe` SDK talks to.

It is a distribution of its own: nothing here imports the service beside which it lies, or the `stripe` package.
Start it with `stripe-standin` or `python -m stripe_standin`; the README shows the rest.

    app            the life of one request, and the ASGI door
    serving, wire  the HTTP server around it; closing a connection without a word
    state          everything that is remembered
    access         API keys, accounts, modes, permissions
    limits         how often one may ask
    routes         which route is answered by whom
    reading, forms, parameters   what was sent, and what a route accepts
    contacts       e-mail and postal addresses, and where goods are sent
    idempotency    one key, one answer, for a day
    answers, errors              answers with their headers; refusals, in Stripe's words
    versions       how objects looked in older API versions
    faults         what goes wrong, and where in a request's life
    hostile        answers that a client must not believe
    waiting        requests that are held until somebody lets them go
    world, books   clock, ids, and what each account has in one mode
    index, queries               what search knows, a while late; what it can be asked
    history        events and effects
    agenda, clockwork            what comes with time
    call           what the answerer of a route is given
    api            the answerers: customers, payments, the ledger, invoices; one room for each kind of object
    webhooks       who is told what, and when; one attempt to tell it; what goes wrong with it
    objects        what is kept of each object, and how it looks
    lists, expansion             pages; an id replaced by its object
    admin          /_standin: look inside, and arrange what goes wrong
    fields         what can be asked of it, and how each field is read
    control        a small client for the admin side
"""
