"""CPC on sound."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="cpc-audio",
    summary="Contrastive predictive coding of sound: predict what will be heard (van den Oord et al. 2018).",
    title="Representation Learning with Contrastive Predictive Coding",
    paper="van den Oord et al. 2018",
    arxiv="1807.03748",
    query="a prediction from a sound so far",
    dictionary="all frames of the batch",
    target="the frame some steps later, same encoder",
    negatives=True,
    idea=(
        "A sound is cut into frames of about ten milliseconds, encoded by strided convolutions, and a recurrent "
        "network summarises what has been heard. From this summary, future frames are predicted, and each "
        "prediction has to identify its frame among all others of the sound and of the batch. Features that "
        "persist help: the voice, the word, the phone. The feature of a sound is the mean of its contexts. The "
        "data are a folder of .wav files."
    ),
    equation="""\
L = -sum_{t,k} log( exp(z_{t+k} . W_k c_t / tau) / sum_j exp(z_j . W_k c_t / tau) ),   j: all frames
z_t = g_enc(x_t),   c_t = GRU(z_1 ... z_t)""",
    published=(
        ("LibriSpeech, 100 h: linear on each frame, 41 phones", "64.6", "van den Oord et al. 2018, Table 1"),
        ("LibriSpeech, 100 h: linear on each frame, 251 speakers", "97.4", "van den Oord et al. 2018, Table 1"),
    ),
)
