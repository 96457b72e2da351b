# Reads a document and cases of a schema's name and a value, and answers with what is wrong with each
# value, as both drafts of JSON Schema see it; `null`: nothing.
import json
import sys

from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker

asked = json.load(sys.stdin)
components = asked["document"]["components"]


def fault(name, value):
    schema = {"$ref": f"#/components/schemas/{name}", "components": components}
    for draft in (Draft7Validator, Draft202012Validator):
        checker = draft(schema, format_checker=FormatChecker(["date-time"]))
        found = next(checker.iter_errors(value), None)
        if found is not None:
            return f"{draft.__name__}: {found.message} at {list(found.absolute_path)}"
    return None


json.dump([fault(name, value) for name, value in asked["cases"]], sys.stdout)
