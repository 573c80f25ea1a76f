"""What the tests of a search share: its options, and its scales looked at and set."""

from dataclasses import replace

from dsonas_mx.search.options import SearchOptions
from dsonas_mx.space.scales import scale_names

import mxnet as mx

OPTIONS = SearchOptions(
    pretrain_epochs=0,
    num_epochs=2,
    split=(1, 1),
    shrink_every=1,
    patience=9,
    learning_rate=0.05,
    gamma=0.01,
)
# λ then changes by 1e-5 a step, and what is zero stays so: a clipped gradient is below γ.
FROZEN = replace(OPTIONS, learning_rate=1e-6, gamma=10.0, momentum=0.0, num_epochs=9)


def values(search, device=0):
    """Every parameter, as it is on a device."""
    parameters = search.net.collect_params().items()
    return {name: p.list_data()[device].asnumpy() for name, p in parameters}


def named(search, parameter):
    """The names, as in `scales`, of the scales that a parameter holds."""
    names = scale_names(search.architecture.space)
    return [names[part] for part in search.net.packed[parameter][1]]


def set_lambdas(search, changes):
    """Set scales by the names that `scales` gives them."""
    for name in search.net.lambda_names:
        parameter = search.net.collect_params()[name]
        array = parameter.data(parameter.list_ctx()[0]).asnumpy()
        for position, full_name in enumerate(named(search, name)):
            array[position] = changes.get(full_name, array[position])
        parameter.set_data(mx.nd.array(array))


def set_at_the_end(search, changes):
    """Set scales between the last step of an epoch and what follows from it: {epoch: scales}."""

    def change():
        if search.position == search.steps_of(search.epoch):
            set_lambdas(search, changes.get(search.epoch + 1, {}))

    search.after_step = change
