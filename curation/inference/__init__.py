"""Where models compute: networks held by a server per GPU, fed by many workers.

`network` holds the contract, `runner` runs one network in batches of fixed sizes, `server` gathers the requests of many
workers into such batches, `client` is what a model's front calls, wherever the network lives.
"""
