"""A stand-in for Stripe: an HTTP server in memory that the real `stripe` SDK talks to.

It is a distribution of its own: it imports neither the service in this repository nor the `stripe` package.
Start it with `stripe-standin` or `python -m stripe_standin`; the README shows the rest.

    app            the life of one request, and the ASGI application
    serving, wire  the HTTP server around it; closing a connection without an answer
    state          everything that is remembered
    access         API keys, accounts, modes, permissions
    limits         rate limits
    routes         which function answers a route
    reading, forms, parameters   what was sent, and what a route accepts
    contacts       e-mail and postal addresses, and where goods are sent
    idempotency    one key, one answer, for a day
    answers, errors              answers with their headers; refusals, in Stripe's words
    versions       how objects looked in older API versions
    faults         what goes wrong, and where in a request's life
    hostile        false answers: proxy pages, redirects, wrong objects
    pages          links to documents, and a small PDF of each
    waiting        requests that are held until a test releases them
    world, books   clock, ids, and what each account has in one mode
    index, queries               what search knows, with a delay; its query language
    history        events and effects
    agenda, clockwork            what happens at a set time
    call           what the function of a route is given
    api            the functions of all routes: customers, payments, the ledger, invoices; one module per kind of object
    webhooks       which endpoint gets which event, and when; one attempt; webhook faults
    objects        what is stored of each object, and how it is shown
    lists, expansion             pages of a list; expanding an id to its object
    admin          /_standin: look inside, and set faults
    fields         how its bodies, queries and options are read
    control        a small client for the admin side
"""
