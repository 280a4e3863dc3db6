"""The parameters of writes: CreateOptions, UpdateOptions, PatchOptions, DeleteOptions."""

import errors

KINDS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions",
         "delete": "DeleteOptions", "deletecollection": "DeleteOptions"}
LONGEST_MANAGER = 128
VALIDATIONS = ("", "Ignore", "Strict", "Warn")


def check(request, verb, known, applies=False):
    """422 for a parameter that a write can't have; known says what the server knows of."""
    kind = KINDS.get(verb)
    if kind is None:
        return
    problems = []
    if known.managed_fields and kind != "DeleteOptions":
        problems += _manager_problems(request, applies)
    if known.dry_run and "dryRun" in request.query:
        problems += dry_run_problems(request.query["dryRun"])
    if known.field_validation and kind != "DeleteOptions":
        problems += _validation_problems(request.param("fieldValidation"))
    if problems:
        raise errors.invalid(kind, "meta.k8s.io", "", problems)


def _manager_problems(request, applies):
    manager = request.param("fieldManager")
    if applies and not manager:
        return [errors.value_required("fieldManager", "is required for apply patch")]
    if len(manager.encode()) > LONGEST_MANAGER:
        return [errors.value_too_long("fieldManager", LONGEST_MANAGER)]
    if not manager.isprintable():
        return [errors.value_invalid("fieldManager", manager,
                                     "should only contain printable characters")]
    return []


def dry_run_problems(given):
    """What is wrong with a list of dryRun values."""
    if given == ["All"] or not given:
        return []
    return [errors.value_not_supported("dryRun", given, ["All"])]


def _validation_problems(given):
    if given in VALIDATIONS:
        return []
    return [errors.value_not_supported("fieldValidation", given, VALIDATIONS)]


def check_delete_body(options):
    """422 for DeleteOptions whose dryRun is none."""
    problems = dry_run_problems(options.get("dryRun") or [])
    if problems:
        raise errors.invalid("DeleteOptions", "meta.k8s.io", "", problems)
