/* No table at all. */
int att_plugin_abi = 2;
