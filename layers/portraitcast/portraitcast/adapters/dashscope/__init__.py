"""The video service over HTTP: Alibaba Cloud Model Studio (DashScope)."""
