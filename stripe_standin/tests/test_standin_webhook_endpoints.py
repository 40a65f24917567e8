"""Webhook endpoints behave as at Stripe; their secret is shown once."""

from typing import get_args

import pytest
import stripe
from stripe.params import WebhookEndpointCreateParams

from stripe_standin.webhooks.event_types import ALL, EVENT_TYPES

URL = "https://example.com/webhooks"
LIVE_KEY = "sk_live_standin"


def test_the_secret_is_shown_once(client):
    made = client.v1.webhook_endpoints.create(
        params={"url": URL, "enabled_events": ["invoice.paid"], "description": "ours", "metadata": {"a": "b"}}
    )
    assert made.secret.startswith("whsec_")
    assert (made.status, made.livemode, made.description) == ("enabled", False, "ours")
    again = client.v1.webhook_endpoints.retrieve(made.id)
    assert "secret" not in again
    assert again.enabled_events == ["invoice.paid"]
    assert again.api_version is None


def test_an_endpoint_is_changed_disabled_listed_and_deleted(client):
    endpoints = client.v1.webhook_endpoints
    first, second = (endpoints.create(params={"url": URL, "enabled_events": ["*"]}) for _ in range(2))
    assert [each.id for each in endpoints.list().data] == [second.id, first.id]
    changed = endpoints.update(
        first.id,
        params={"url": URL + "/2", "disabled": True, "enabled_events": ["charge.failed"], "metadata": {"a": "b"}},
    )
    assert (changed.url, changed.status, changed.enabled_events) == (URL + "/2", "disabled", ["charge.failed"])
    assert endpoints.update(first.id, params={"disabled": False}).status == "enabled"
    assert endpoints.delete(first.id).deleted
    with pytest.raises(stripe.InvalidRequestError, match="No such webhook endpoint") as gone:
        endpoints.retrieve(first.id)
    assert gone.value.http_status == 404
    assert [each.id for each in endpoints.list().data] == [second.id]


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"enabled_events[0]": "*"}, "url"),
        ({"url": URL}, "enabled_events"),
        ({"url": URL, "enabled_events": ""}, "enabled_events"),
        ({"url": URL, "enabled_events[0]": "invoice.payed"}, "enabled_events[0]"),
        ({"url": URL, "enabled_events[0][a]": "*"}, "enabled_events[0]"),
        ({"url": "example.com", "enabled_events[0]": "*"}, "url"),
        ({"url": "http://", "enabled_events[0]": "*"}, "url"),
        ({"url": "http://a:99999", "enabled_events[0]": "*"}, "url"),
        ({"url": "http://a/\r\nx: y", "enabled_events[0]": "*"}, "url"),
        ({"url[a]": "b", "enabled_events[0]": "*"}, "url"),
        ({"url": URL, "enabled_events[0]": "*", "api_version": "2027-01-01"}, "api_version"),
        ({"url": URL, "enabled_events[0]": "*", "api_version": "soon"}, "api_version"),
        ({"url": URL, "enabled_events[0]": "*", "connect": "true"}, "connect"),
        ({"url": URL, "enabled_events[0]": "*", "disabled": "true"}, "disabled"),
    ],
)
def test_a_wrong_endpoint_is_refused(raw, form, param):
    refused = raw("POST", "/v1/webhook_endpoints", form)
    assert (refused.status, refused.json()["error"].get("param")) == (400, param)


def test_the_version_of_an_endpoint_cannot_be_changed(raw, client):
    endpoint = client.v1.webhook_endpoints.create(params={"url": URL, "enabled_events": ["*"]})
    refused = raw("POST", f"/v1/webhook_endpoints/{endpoint.id}", {"api_version": "2024-06-20"})
    assert refused.json()["error"]["code"] == "parameter_unknown"


def test_live_mode_wants_https_and_sees_no_test_endpoints(raw, client_for):
    form = {"url": "http://example.com", "enabled_events[0]": "*"}
    assert raw("POST", "/v1/webhook_endpoints", form).status == 200
    refused = raw("POST", "/v1/webhook_endpoints", form, api_key=LIVE_KEY)
    assert refused.status == 400
    assert 'must begin with "https://"' in refused.json()["error"]["message"]
    live = client_for(LIVE_KEY).v1.webhook_endpoints
    made = live.create(params={"url": URL, "enabled_events": ["*"]})
    assert [each.id for each in live.list().data] == [made.id]
    with pytest.raises(stripe.InvalidRequestError, match="https"):
        live.update(made.id, params={"url": "http://example.com"})


def test_there_are_sixteen_at_most_for_each_mode(client, client_for):
    wanted = {"url": URL, "enabled_events": ["*"]}
    made = [client.v1.webhook_endpoints.create(params=wanted) for _ in range(16)]
    with pytest.raises(stripe.InvalidRequestError, match="16"):
        client.v1.webhook_endpoints.create(params=wanted)
    client_for(LIVE_KEY).v1.webhook_endpoints.create(params=wanted)
    client.v1.webhook_endpoints.delete(made[0].id)
    client.v1.webhook_endpoints.create(params=wanted)


def test_the_types_of_events_are_those_of_the_sdk():
    (declared,) = get_args(WebhookEndpointCreateParams.__annotations__["enabled_events"])
    assert set(get_args(declared)) - {ALL} == EVENT_TYPES
