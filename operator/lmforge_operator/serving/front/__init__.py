"""What stands before the engines: the Service that clients talk to, the router, and the gateway where one is wanted."""
