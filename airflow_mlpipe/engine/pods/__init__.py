"""Steps in pods: the half of the engine, on KubernetesPodOperator. Imported only where a step runs in one."""
