# What schemathesis does not know of this API: what is kept, and which 5xx is no fault.
import schemathesis


# Of what it makes up, half is in a namespace that keeps history: elsewhere there is nothing to read.
@schemathesis.hook
def map_path_parameters(context, path_parameters):
    for name in ("topic", "pattern"):
        value = (path_parameters or {}).get(name)
        if isinstance(value, str) and len(value) % 2:
            path_parameters[name] = "kept." + value
    return path_parameters


# Reading what is not kept is 501 `not_supported`, as documented.
@schemathesis.check
def no_fault_of_its_own(context, response, case):
    assert response.status_code < 500 or response.status_code == 501, response.text
