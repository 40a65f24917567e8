"""The document behind the link of an invoice or a credit note: public, redirected, a real PDF, as broken as asked."""

import re

import pytest
import urllib3


@pytest.fixture
def finalized(client, customer):
    """An invoice with `lines` lines that is finalized, as the API shows it."""

    def make(lines=2):
        invoice = client.v1.invoices.create(params={"customer": customer})
        for n in range(lines):
            params = {"customer": customer, "invoice": invoice.id, "amount": 500, "currency": "usd"}
            client.v1.invoice_items.create(params={**params, "description": f"Seat ({n})"})
        return client.v1.invoices.finalize_invoice(invoice.id)

    return make


def read(url, **options):
    """Without a key, as whoever has the link."""
    return urllib3.PoolManager(retries=False).request("GET", url, timeout=20, **options)


def followed(url, host):
    first = read(url, redirect=False)
    assert first.status == 302
    return read(f"{host}{first.headers['Location']}")


def objects_of(document):
    """The objects of a PDF by its own table: each place must be where that object begins."""
    at = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", document)[1])
    assert document[at:].startswith(b"xref\n0 ")
    places = [int(place) for place in re.findall(rb"(\d{10}) 00000 n", document[at:])]
    for number, place in enumerate(places, 1):
        assert document[place:].startswith(b"%d 0 obj" % number)
    return places


def test_the_link_leads_without_a_key_to_a_pdf_of_the_invoice(url, finalized):
    invoice = finalized()
    assert invoice.invoice_pdf.startswith(f"{url}/invoice/test_")
    answer = followed(invoice.invoice_pdf, url)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/pdf")
    assert answer.data.startswith(b"%PDF-1.4\n")
    assert len(objects_of(answer.data)) == 5
    for shown in (invoice.number, "Seat \\(0\\)", "Seat \\(1\\)", "1000 usd"):
        assert shown.encode() in answer.data
    assert followed(invoice.invoice_pdf, url).data == answer.data


def test_many_lines_take_several_pages(url, finalized):
    document = followed(finalized(60).invoice_pdf, url).data
    assert document.count(b"/Type /Page ") == 2
    objects_of(document)


def test_a_draft_has_no_link_and_a_made_up_token_leads_nowhere(url, client, customer):
    draft = client.v1.invoices.create(params={"customer": customer})
    assert draft.invoice_pdf is None
    for path in ("/invoice/test_bm90aGluZ19oZXJl/pdf", "/files/test_bm90aGluZ19oZXJl.pdf", "/files/live_////.pdf"):
        assert read(f"{url}{path}", redirect=False).status in (401, 404)


def test_a_credit_note_has_a_document_too(url, raw, client, finalized):
    invoice = finalized()
    note = client.v1.credit_notes.create(params={"invoice": invoice.id, "amount": 100})
    assert note.number.encode() in followed(note.pdf, url).data


def test_the_link_has_the_name_under_which_the_client_knows_the_stand_in(url, raw, finalized):
    invoice = finalized()
    named = raw("GET", f"/v1/invoices/{invoice.id}", Host="standin.example:80").json()
    assert named["invoice_pdf"].startswith("http://standin.example:80/invoice/")
    nameless = raw("GET", f"/v1/invoices/{invoice.id}", Host="a b").json()
    assert nameless["invoice_pdf"].startswith("https://pages.standin.invalid/")


def test_requests_for_documents_are_seen_with_their_faults(url, control, finalized):
    invoice = finalized()
    control.add_fault("200_html", path="^/files/", times=1)
    page = followed(invoice.invoice_pdf, url)
    assert (page.status, page.data[:6]) == (200, b"<html>")
    asked = [(each["path"].split("/")[1], each["status"], each["fault"]) for each in control.requests()[-2:]]
    assert asked == [("invoice", 302, None), ("files", 200, "200_html")]


def test_a_document_breaks_off_or_leads_elsewhere(url, control, finalized):
    invoice = finalized()
    control.add_fault("truncate_body", path="^/files/", times=1)
    with pytest.raises(urllib3.exceptions.HTTPError):
        followed(invoice.invoice_pdf, url)
    control.add_fault("redirect_307", path="^/invoice/", times=1, location="http://127.0.0.1:9/elsewhere")
    assert read(invoice.invoice_pdf, redirect=False).headers["Location"] == "http://127.0.0.1:9/elsewhere"


def test_a_body_that_drips_comes_whole_in_pieces(url, control, finalized):
    invoice = finalized()
    control.add_fault("drip_body", path="^/files/", times=1, seconds=0.5)
    place = read(invoice.invoice_pdf, redirect=False).headers["Location"]
    answer = read(f"{url}{place}", preload_content=False)
    pieces = list(iter(answer.read1, b""))
    assert len(pieces) > 1
    assert b"".join(pieces).endswith(b"%%EOF\n")


def test_a_huge_body_announces_its_size(url, control, finalized):
    invoice = finalized()
    control.add_fault("huge_body", path="^/files/", times=1, megabytes=3)
    document = followed(invoice.invoice_pdf, url).data
    assert len(document) > 3_000_000
    assert document.rstrip().endswith(b"%%EOF")
