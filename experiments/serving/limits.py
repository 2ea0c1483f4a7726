"""How much anyone may ask for, and for how long anyone may take."""

BODY = 1 << 20  # bytes of a request
CLICKS = 10_000  # of a session that is sent; the model sees the last ones
EXCLUDE = 1000  # ids of a request
ONLY = 10_000  # ids of a request
BATCH = 32  # sessions of a request
TEXT = 1000  # characters of an id
K = 20  # items of a list, where none is asked for

READ_SECONDS = 5.0  # for a request to arrive whole, from its first byte
WRITE_SECONDS = 20.0  # for a client that reads nothing, once buffers are full
WAIT_SECONDS = 10.0  # in the queue
ANSWER_SECONDS = 30.0  # from a request to its answer; who takes longer hangs
CONNECTIONS = 1024  # that are open
REQUESTS = 512  # that are worked on, or read
