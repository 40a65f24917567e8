"""Secrets as Stripe gives them out, one of each form that its documentation shows; made up, and each with a word in it
by which a search finds it."""


def stripe_secrets(word: str = "bcdfghjk") -> dict[str, str]:
    """By a name for a test's report. `word`: small letters, at least eight."""
    long = f"{word}QWERTZ0123456789asdfgh"
    return {
        "payment intent": f"pi_3MtwBwLkdIwHu7ix28a3tqPa_secret_{long}",
        "payment intent of the stand-in": f"pi_{'0123456789abcdef' * 2}_secret_{word}{'fedcba98' * 2}",
        "short payment intent": f"pi_1_secret_{word}",
        "setup intent": f"seti_1Mm8s8LkdIwHu7ix0OXBfTRG_secret_{long}",
        "checkout session": f"cs_test_a11YYufWQzNY63zpQ6QSNRQhkUpVph4WRmzW0zWJO2znZKdVujZ0N0S22u_secret_{long}",
        "source": f"src_1N3lxdLkdIwHu7ixPHXy8UcI_client_secret_{long}",
        "source without its id": f"src_client_secret_{long}",
        "verification session": f"vs_1NuN4zLkdIwHu7ixleE6HvkI_secret_test_{long}",
        "account session": f"accs_secret__{long}",
        "customer session": f"cuss_1NbZ8kLkdIwHu7ixWjA1_secret_{long}",
        "financial connections session": f"fcsess_1LF2ZS2eZvKYlo2C3dDmQKwJ_secret_{long}",
        "crypto onramp session": f"cos_1Lb6vsAY1pjOSNXVWF3nUtkV_secret_{long}",
        "an object of tomorrow": f"newthing_1Lb6vsAY1pjOSNXVWF3nUtkV_secret_{long}",
        "secret key": f"sk_test_{long}",
        "live secret key": f"sk_live_51{long}",
        "organization's key": f"sk_org_live_{long}",
        "restricted key": f"rk_live_51{long}",
        "publishable key": f"pk_test_{long}",
        "dashboard's key": f"uk_live_{long}",
        "ephemeral key": f"ek_test_YWNjdF8{long}",
        "signing secret": f"whsec_{long}",
        "terminal token": f"pst_test_{long}",
        "oauth code": f"ac_{long}{long}",
        "refresh token": f"rt_{long}{long}",
    }
