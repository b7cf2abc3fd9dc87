"""Workers in containers.

daemon       the daemon: reached once, what it says of itself
settings     how containers are run: defaults under what studies and users say
errors       what the daemon's words mean: cause and fix; its tables are in saying, sayings_*
endings      why a container ended
image        images: looked at, fetched with progress
preflight    whether containers work here, before the first measurement
order        what a container is created with: pure
stream       the worker's standard streams through the daemon
attached     a worker at the other end of a stream: what containers and execs have in common
container    a worker in a container of its own: the transport
persistent   containers kept for backends: their health and restarts
kept         one of them: begun, found again, ended
execed       a worker in a container that is kept: the transport
attendant    the host's side of what lives in such a container, which is the text of inside
health       whether the GPUs in it are fit for a measurement: the rule, pure
reaper       labels, and the removal of what dead sessions left
guardian     a process that removes what a killed session was about to start
models       how a model gets into a container
contents     what belongs to a model on this host: files, links, digests
hub          the hub's cache on this host, and the user's token
sight        whether a daemon sees this host's files
volumes      volumes that hold models, filled once for each content
outlook      what containers would have to get first, for a plan
runner       all of it together: the runner ``docker``
"""
