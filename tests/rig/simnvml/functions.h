/* The functions that are counted, and that latency, missing and err may name.
 * Versions of one function share a name, except where a test may want to take one away. */
#ifndef SIMNVML_FUNCTIONS_H
#define SIMNVML_FUNCTIONS_H

#define FOR_EACH_FUNCTION(X)                      \
  X(nvmlInitWithFlags)                            \
  X(nvmlInit_v2)                                  \
  X(nvmlShutdown)                                 \
  X(nvmlSystemGetDriverVersion)                   \
  X(nvmlSystemGetNVMLVersion)                     \
  X(nvmlSystemGetCudaDriverVersion)               \
  X(nvmlSystemGetProcessName)                     \
  X(nvmlDeviceGetCount)                           \
  X(nvmlDeviceGetHandleByIndex)                   \
  X(nvmlDeviceGetHandleByUUID)                    \
  X(nvmlDeviceGetHandleByPciBusId)                \
  X(nvmlDeviceGetName)                            \
  X(nvmlDeviceGetUUID)                            \
  X(nvmlDeviceGetIndex)                           \
  X(nvmlDeviceGetMinorNumber)                     \
  X(nvmlDeviceGetSerial)                          \
  X(nvmlDeviceGetBrand)                           \
  X(nvmlDeviceGetVbiosVersion)                    \
  X(nvmlDeviceGetArchitecture)                    \
  X(nvmlDeviceGetCudaComputeCapability)           \
  X(nvmlDeviceGetPciInfo)                         \
  X(nvmlDeviceGetMemoryInfo)                      \
  X(nvmlDeviceGetMemoryInfo_v2)                   \
  X(nvmlDeviceGetTemperature)                     \
  X(nvmlDeviceGetTemperatureV)                    \
  X(nvmlDeviceGetTemperatureThreshold)            \
  X(nvmlDeviceGetFanSpeed)                        \
  X(nvmlDeviceGetUtilizationRates)                \
  X(nvmlDeviceGetPowerUsage)                      \
  X(nvmlDeviceGetTotalEnergyConsumption)          \
  X(nvmlDeviceGetPowerManagementLimit)            \
  X(nvmlDeviceGetPowerManagementDefaultLimit)     \
  X(nvmlDeviceGetEnforcedPowerLimit)              \
  X(nvmlDeviceGetPowerManagementLimitConstraints) \
  X(nvmlDeviceGetPowerManagementMode)             \
  X(nvmlDeviceSetPowerManagementLimit)            \
  X(nvmlDeviceGetPersistenceMode)                 \
  X(nvmlDeviceSetPersistenceMode)                 \
  X(nvmlDeviceGetComputeMode)                     \
  X(nvmlDeviceGetPerformanceState)                \
  X(nvmlDeviceGetClockInfo)                       \
  X(nvmlDeviceGetMaxClockInfo)                    \
  X(nvmlDeviceGetApplicationsClock)               \
  X(nvmlDeviceGetSupportedMemoryClocks)           \
  X(nvmlDeviceGetSupportedGraphicsClocks)         \
  X(nvmlDeviceGetCurrentClocksThrottleReasons)    \
  X(nvmlDeviceGetCurrentClocksEventReasons)       \
  X(nvmlDeviceGetSupportedClocksThrottleReasons)  \
  X(nvmlDeviceGetSupportedClocksEventReasons)     \
  X(nvmlDeviceGetViolationStatus)                 \
  X(nvmlDeviceGetComputeRunningProcesses)         \
  X(nvmlDeviceGetGraphicsRunningProcesses)        \
  X(nvmlDeviceGetMPSComputeRunningProcesses)      \
  X(nvmlDeviceGetMigMode)                         \
  X(nvmlDeviceGetMaxMigDeviceCount)               \
  X(nvmlDeviceGetMigDeviceHandleByIndex)          \
  X(nvmlDeviceIsMigDeviceHandle)                  \
  X(nvmlDeviceGetDeviceHandleFromMigDeviceHandle) \
  X(nvmlDeviceGetEccMode)                         \
  X(nvmlDeviceGetCpuAffinity)                     \
  X(nvmlDeviceGetNumGpuCores)                     \
  X(nvmlDeviceGetFieldValues)                     \
  X(nvmlDeviceGetSamples)

#define AS_NUMBER(name) FN_##name,
typedef enum { FOR_EACH_FUNCTION(AS_NUMBER) FUNCTIONS } Function;
#undef AS_NUMBER

#endif
