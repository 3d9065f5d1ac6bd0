import coffer
from coffer.v1 import secret_pb2

# The address and the token come from COFFER_ADDR and COFFER_TOKEN_FILE.
with coffer.Client(environment="tour") as client:
    # Any method, by its stub and the generated messages.
    secrets = client.service("SecretService")
    made = secrets.CreateSecret(secret_pb2.CreateSecretRequest(
        name="tour-python", environment="tour",
        values=[secret_pb2.KeyValue(key="TOKEN", value=b"xoxb-of-the-tour")]), timeout=10)
    print(f"{made.secret.name} has version {made.secret.version}")

    # What an executor does.
    resolved = client.resolve("tour-python.TOKEN", "${{ SECRETS['tour-python'].OTHER || 'none' }}",
                              workflow_id="wf-1", run_id="run-1", consistency_token=made.consistency_token)
    token = resolved["tour-python.TOKEN"]
    print(resolved.mask(f"the token is {token.text()}, and {len(token)} bytes long"))

    try:
        client.resolve("tour-python.TOKN")
    except coffer.ResolveError as error:
        for fault in error.faults:
            print(f"{fault.outcome}: {fault.reference}")
