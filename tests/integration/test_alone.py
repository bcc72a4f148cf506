"""While the cloud is away the draft writes on, and in the end the text is the one that it would have been."""

from cactus_core.acceptance import Acceptance
from cactus_core.sampling import SamplingParams
from cloud.service import VerifierServer
from cluster.emulated_link import EmulatedLink
from edge.completer import Completer, Drafting
from edge.completion import Completion, Retraction
from edge.link import Endpoint
from edge.rounds import Origin

NUM_TOKENS, AWAY_S = 40, 0.6  # a text's end is not to come before, so its token is ruled out


async def written(client, link=None):
    """The completion, and the ids that a caller has in the end who takes back what it is told to; a link goes away after 8."""
    completion, shown, origins = Completion("w5 w2"), [], set()
    settings = {"sampling": SamplingParams(logit_bias=((0, -100.0),)), "seed": 11, "acceptance": Acceptance("coupled")}
    async for told in client.generate(completion, max_tokens=NUM_TOKENS, **settings):
        if isinstance(told, Retraction):
            del shown[-told.num_tokens :]
            continue
        shown.append(told.token.id)
        origins.add(told.token.origin)
        if link is not None and len(shown) >= 8:
            link.refuse(AWAY_S)
            link.cut()
            link = None
    return completion, shown, origins


async def test_a_text_goes_on_while_the_cloud_is_away_and_is_the_targets_in_the_end(small_pair):
    async with (
        VerifierServer(str(small_pair.target), "127.0.0.1:0", memory_gib=0.01, step_at_least_s=0.02) as verifier,
        EmulatedLink(f"127.0.0.1:{verifier.port}") as link,
        Endpoint(link.address) as endpoint,
    ):
        await verifier.loaded()
        plain, expected, _ = await written(Completer(endpoint, small_pair.tokenizer(), None))
        client = Completer(endpoint, small_pair.tokenizer(), small_pair.drafter(), Drafting(goes_on_alone=True))
        completion, shown, origins = await written(client, link)
    assert shown == expected == [token.id for token in completion.tokens]
    assert completion.text == plain.text
    assert Origin.UNVERIFIED in origins
    assert Origin.UNVERIFIED not in {token.origin for token in completion.tokens}
    assert completion.summary.num_resumes == 1
