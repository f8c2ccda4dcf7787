/* Built with another att.h. */
extern const int att_plugin_abi;
const int att_plugin_abi = 9999;
extern const char att_kernels_plugin[1024];
const char att_kernels_plugin[1024] = { 0 };
