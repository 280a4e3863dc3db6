"""What the servers of different ages know."""


class Options:
    """flavor "4", "3.11" or "3.7"; the rest can be set one by one."""

    def __init__(self, flavor="4", bookmarks=True, bookmark_interval=60.0):
        new = flavor == "4"
        self.flavor = flavor
        self.oapi = not new
        self.paging = flavor != "3.7"
        self.remaining = new
        self.version_match = new
        self.watch_cache = new
        self.initial_events = new
        self.bookmarks = bookmarks and new
        self.bookmark_interval = bookmark_interval
        self.forms = () if flavor == "3.7" else ("table", "partial")
        self.managed_fields = new
        self.field_validation = new
        self.dry_run = new
        self.version_preconditions = new
        self.apply = new
        self.openapi_v2 = flavor != "3.7"
        self.openapi_v3 = new
        self.import_modes = new
        self.self_links = not new
        self.export = not new
        self.post_anywhere = not new
        self.gzip = new
        self.storage_hashes = new
        # Old servers answer an expired watch with HTTP 410; control can switch either way.
        self.gone_by_status = not new
        self.missing_resources = {
            "4": [],
            "3.11": ["imagetags", "authentication.k8s.io/selfsubjectreviews"],
            "3.7": ["imagetags", "imagestreams/layers",
                    "authentication.k8s.io/selfsubjectreviews",
                    "authorization.k8s.io/selfsubjectrulesreviews"],
        }[flavor]
        self.replicas = 1
        self.lag = 0.0  # of the last replica's watch cache, in seconds
        self.cut_in_event = lambda path, query: False
