#include "vcpu/cpu_model.h"
