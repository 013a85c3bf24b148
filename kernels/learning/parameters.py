"""The integers that one learning layer consists of, as kernels take them; ``docs/learning.md`` says what each means."""

from typing import NamedTuple

# Random bits are ``random_word(seed, step, layer, kind, sample, index)``: the running index is the last key word.
# Kinds lie above every number of a sample, so that no word is shared with the neurons of a simulation.
KIND = 1 << 32
DRAW_P, DRAW_Q, DRAW_DROPOUT, DRAW_WEIGHT, DRAW_BIAS = range(KIND, KIND + 5)
DRAW_TAU_MEMBRANE, DRAW_TAU_SYNAPSE, DRAW_READOUT, DRAW_FEEDBACK, DRAW_START, DRAW_START_BIAS = range(
    KIND + 8, KIND + 14
)
EVALUATION = 1 << 48  # added to the step of evaluations: they share no random bits with training
LANES = 4  # elements that share one random word: 16 bits each
NO_LABEL = -1

# indices into an array of counters (int64)
P_CLIPPED, Q_CLIPPED, U_CLIPPED, W_CLIPPED, W_CHANGED, SPIKES, U_SUM, A_SUM, LOSS, ERRORS = range(10)
COUNTERS = 10


class Pool(NamedTuple):
    """Spike max-pool: windows of `size` x `size` that do not overlap; what is left over at the edges is dropped."""

    size: int
    height: int  # of the maps after the pool
    width: int


class LearnParameters(NamedTuple):
    """What is the same for all elements of a layer."""

    # traces
    p_max: int
    q_max: int
    r_max: int
    places: int  # binary places of decays and gains
    trace_rounding: int  # Rounding
    refractory_decay: int
    refractory_step: int
    # membrane
    u_max: int
    threshold: int
    charge_gain: int
    bias_gain: int
    refractory_gain: int
    charge_places: int
    # readout and loss
    readout_shift: int
    activation_max: int
    dropout: int  # of 2**16: how often a readout is dropped
    # errors
    error_max: int
    error_places: int
    penalty_places: int
    rate_penalty: int
    quiet_penalty: int
    quiet_sum: int  # quiet when quiet_factor * (sum of u) < quiet_sum
    quiet_factor: int
    # weights
    random_bits: int
    inclusive_random: int  # 1: the generator of the original, which may move exact values
    step_max: int  # largest change of a weight in one step
    master_max: int
    weight_max: int
    weight_shift: int  # master places - forward places, may be negative
    # keys of random bits
    seed: int
    layer: int


# draws of spike-timing rules, as kinds of the random generator
DRAW_PRE, DRAW_POST, DRAW_PAIR, DRAW_ELIGIBILITY, DRAW_REWARD = range(KIND + 16, KIND + 21)
# indices into an array of counters of a spike-timing rule
PAIR_CLIPPED, PAIR_CHANGED, PAIR_UP, PAIR_DOWN = range(4)
PAIR_COUNTERS = 4

# draws of a training: order of the samples, start of a window, spikes of a rate code
DRAW_ORDER, DRAW_WINDOW, DRAW_INPUT = range(KIND + 24, KIND + 27)


class PairParameters(NamedTuple):
    """Spike-timing rules: decays are five integers each, as `reference.decay` takes them."""

    pre_kind: int
    pre_a: int
    pre_b: int
    pre_rounding: int
    pre_least: int
    pre_amplitude: int
    pre_max: int
    post_kind: int
    post_a: int
    post_b: int
    post_rounding: int
    post_least: int
    post_amplitude: int
    post_max: int
    nearest: int  # 1: a spike sets its trace to the amplitude, 0: adds it
    weight_min: int
    weight_max: int
    soft: int  # 1: changes are multiplied by the distance to the end of the range
    places: int  # changes count in 2**-places of a weight step
    rounding: int
    eligibility_kind: int
    eligibility_a: int
    eligibility_b: int
    eligibility_rounding: int
    eligibility_least: int
    eligibility_max: int
    seed: int
    layer: int
